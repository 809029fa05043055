//! Address families and ipBlocks.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, IPv4 first.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// The family of a network.
    #[must_use]
    pub fn of_net(net: &IpNet) -> Self {
        match net {
            IpNet::V4(_) => Family::V4,
            IpNet::V6(_) => Family::V6,
        }
    }
}

impl fmt::Display for Family {
    /// `IPv4` or `IPv6`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// An `ipBlock`: a network less some networks inside it.
///
/// Both are masked. Every `except` is a strict subset of the network and of its family; they may
/// overlap. `except` means "not granted by this block"; another block may grant it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpBlock {
    cidr: IpNet,
    except: Vec<IpNet>,
}

/// Why networks make no [`IpBlock`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IpBlockError {
    /// An except that is not strictly within the block.
    #[error("`{except}` is not a strict subset of `{cidr}`")]
    NotInside {
        /// The block.
        cidr: IpNet,
        /// The except.
        except: IpNet,
        /// Its place in the list.
        index: usize,
    },
}

impl IpBlock {
    /// The block `cidr` less `except`; host bits are masked off, excepts are kept in order.
    ///
    /// # Errors
    /// Where an except is not a strict subset of `cidr`.
    pub fn new(cidr: IpNet, except: Vec<IpNet>) -> Result<Self, IpBlockError> {
        let cidr = cidr.trunc();
        let except: Vec<IpNet> = except.into_iter().map(|e| e.trunc()).collect();
        for (index, e) in except.iter().enumerate() {
            if !cidr.contains(e) || *e == cidr {
                return Err(IpBlockError::NotInside { cidr, except: *e, index });
            }
        }
        Ok(Self { cidr, except })
    }

    /// The network.
    #[must_use]
    pub fn cidr(&self) -> IpNet {
        self.cidr
    }

    /// What it leaves out.
    #[must_use]
    pub fn except(&self) -> &[IpNet] {
        &self.except
    }
}

impl fmt::Display for IpBlock {
    /// `10.0.0.0/8 except 10.1.0.0/16, 10.2.0.0/16`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cidr)?;
        for (i, except) in self.except.iter().enumerate() {
            write!(f, "{}{except}", if i == 0 { " except " } else { ", " })?;
        }
        Ok(())
    }
}
