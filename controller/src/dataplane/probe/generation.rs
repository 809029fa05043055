//! The generation of `nf_tables`: a number that grows by one with every transaction in a network
//! namespace, whoever's it is and whatever it changes.

use netlink_packet_core::NLM_F_ACK;
use netlink_packet_netfilter::nftables::{GenAttribute, GenMessage, NfTablesMessage};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};

use super::netfilter::{Netfilter, ProbeError};

/// Reads it; takes a tenth of a millisecond.
pub(super) fn read(netfilter: &mut Netfilter) -> Result<u32, ProbeError> {
    let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, 0);
    let question = NfTablesMessage::GetGen(GenMessage { attributes: Vec::new() });
    let mut generation = None;
    netfilter.ask(NetfilterMessage::new(header, question), NLM_F_ACK, |part| {
        if let NetfilterMessageInner::NfTables(NfTablesMessage::NewGen(told)) = part {
            generation = told.attributes.iter().find_map(|attribute| match attribute {
                GenAttribute::Id(id) => Some(*id),
                _ => None,
            });
        }
        Ok(())
    })?;
    generation.ok_or_else(|| ProbeError::Answer("it has no generation".to_owned()))
}
