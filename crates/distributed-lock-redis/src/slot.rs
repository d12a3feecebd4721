//! Redis Cluster's hash slots: everything about a resource lives in the slot of its mutex key.

/// A hash tag that puts a key into the slot of `key`: its own if it has one, else all of it, else the
/// smallest decimal number that hashes to the same slot.
pub(crate) fn tag_for(key: &str) -> String {
    if let Some(own) = own_tag(key) {
        return own.to_owned();
    }
    if !key.is_empty() && !key.contains('}') {
        return key.to_owned();
    }
    let wanted = slot_of(key);
    // Every slot has a number below 100,000, so the search ends.
    let same = |number: &u32| slot_of(&number.to_string()) == wanted;
    (0_u32..).find(same).unwrap_or_default().to_string()
}

/// The slot of a key, as the server counts.
fn slot_of(key: &str) -> u16 {
    crc16(own_tag(key).unwrap_or(key).as_bytes()) % 16_384
}

/// What stands between the first `{` and the first `}` after it, unless that is nothing.
pub(crate) fn own_tag(key: &str) -> Option<&str> {
    let (_, rest) = key.split_once('{')?;
    let (tag, _) = rest.split_once('}')?;
    (!tag.is_empty()).then_some(tag)
}

/// CRC-16/XMODEM, as the Redis Cluster specification says.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn slots_are_those_of_the_server() {
        // By `CLUSTER KEYSLOT` of Redis 7.0.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        let slots =
            [("foo", 12_182), ("{foo}bar", 12_182), ("", 0), ("a}b", 7_866), ("x{}y", 16_116)];
        for (key, slot) in slots {
            assert_eq!(slot_of(key), slot, "{key:?}");
        }
    }

    #[test]
    fn a_tag_is_its_own_or_the_whole_key_or_a_number() {
        assert_eq!(tag_for("a{user}b"), "user");
        assert_eq!(tag_for("plain"), "plain");
        assert_eq!(tag_for("open{brace"), "open{brace");
        for key in ["a}b", "x{}y", "{u}z}", "", "}"] {
            let tag = tag_for(key);
            assert_eq!(slot_of(&format!("distributed-lock/1:{{{tag}}}:queue")), slot_of(key));
        }
        assert!(tag_for("a}b").parse::<u32>().is_ok());
    }

    proptest! {
        #[test]
        fn every_key_shares_its_slot_with_what_is_beside_it(key in "[a-c{}]{0,8}|.{0,20}") {
            let beside = format!("distributed-lock/1:{{{}}}:queue:00", tag_for(&key));
            prop_assert_eq!(slot_of(&beside), slot_of(&key));
        }
    }
}
