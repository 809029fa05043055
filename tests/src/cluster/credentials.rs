//! Who is who in a test's cluster: its certificate authority, and the tokens of its accounts.

use std::net::IpAddr;

use k8s_openapi::ByteString;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::failed;
use crate::error::LabError;

/// An account that the API server knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// May do everything.
    Administrator,
    /// The service account that the manifests give to policyd.
    Policyd,
    /// A service account that nothing is bound to.
    Stranger,
}

impl Account {
    const ALL: [Account; 3] = [Account::Administrator, Account::Policyd, Account::Stranger];

    fn user(self) -> &'static str {
        match self {
            Account::Administrator => "administrator",
            Account::Policyd => "system:serviceaccount:kube-system:policyd",
            Account::Stranger => "system:serviceaccount:kube-system:stranger",
        }
    }

    fn groups(self) -> &'static str {
        match self {
            Account::Administrator => "system:masters",
            Account::Policyd | Account::Stranger => {
                "system:serviceaccounts,system:serviceaccounts:kube-system"
            }
        }
    }

    fn token(self) -> &'static str {
        match self {
            Account::Administrator => "token-of-the-administrator",
            Account::Policyd => "token-of-policyd",
            Account::Stranger => "token-of-a-stranger",
        }
    }
}

/// All of it as PEM.
#[derive(Debug)]
pub struct Credentials {
    /// The certificate of the authority.
    pub authority: String,
    /// The API server's certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// The key that signs tokens of service accounts.
    pub signing_key: String,
    /// The public half of it.
    pub signing_key_public: String,
}

impl Credentials {
    /// Makes them for an API server at `addresses`.
    ///
    /// # Errors
    /// Where a key or a certificate cannot be made.
    pub fn make(addresses: &[IpAddr]) -> Result<Self, LabError> {
        Self::try_make(addresses).map_err(|error| failed("make certificates", error))
    }

    fn try_make(addresses: &[IpAddr]) -> Result<Self, rcgen::Error> {
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "the test's own authority");
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority_key = KeyPair::generate()?;
        let root = authority.self_signed(&authority_key)?;
        let issuer = Issuer::new(authority, authority_key);
        let names: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let mut server = CertificateParams::new(names)?;
        server.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = server.signed_by(&key, &issuer)?;
        let signing = KeyPair::generate()?;
        Ok(Self {
            authority: root.pem(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            signing_key: signing.serialize_pem(),
            signing_key_public: signing.public_key_pem(),
        })
    }

    /// The API server's `--token-auth-file`.
    #[must_use]
    pub fn tokens() -> String {
        let line = |account: Account| {
            format!("{},{u},{u},\"{}\"\n", account.token(), account.groups(), u = account.user())
        };
        Account::ALL.into_iter().map(line).collect()
    }

    /// A kubeconfig for `account`; JSON, which is YAML too.
    #[must_use]
    pub fn kubeconfig(&self, server: &str, account: Account) -> String {
        let authority = ByteString(self.authority.clone().into_bytes());
        serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {
                "server": server, "certificate-authority-data": authority,
            }}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "users": [{"name": "test", "user": {"token": account.token()}}],
        })
        .to_string()
    }
}
