//! Lock names as file names, compatible with the .NET library *DistributedLock*.
//!
//! A file name is readable where it can be and exact where it must be: the first 27 UTF-16 units of
//! the name with everything but letters, decimal digits and `_` replaced by `_`; then the first 160
//! bits of the SHA-512 of the name in UTF-8, five bits at a time from the least significant one, in
//! the alphabet `A–Z2–7` (not RFC 4648's order); then `.lock`.

use distributed_lock_core::LockName;
use distributed_lock_core::error::LockResult;
use sha2::{Digest, Sha512};
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

/// How many UTF-16 units of the name are kept readable.
const READABLE_UNITS: usize = 27;
/// How many bytes of the digest are kept: 160 bits are 32 characters of five.
const HASH_BYTES: usize = 20;
#[cfg(unix)]
const HASH_CHARACTERS: usize = 32;
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The file name that stands for a lock name.
///
/// ```
/// use distributed_lock_file::name::lock_file_name;
///
/// assert_eq!(lock_file_name("abc")?, "abc56LLTQOSBT6ULGHITLS4KQEIRREMO53J.lock");
/// # Ok::<(), distributed_lock_core::error::LockError>(())
/// ```
///
/// # Errors
/// [`InvalidName`](distributed_lock_core::error::LockError::InvalidName) for a name of more than
/// 1 KiB.
pub fn lock_file_name(name: &str) -> LockResult<String> {
    Ok(format!("{}.lock", stem(LockName::parse(name)?)))
}

/// The file name without `.lock`. Other files of the same lock have this stem and another ending,
/// which no encoded name has.
pub(crate) fn stem(name: LockName<'_>) -> String {
    let mut stem = readable(name.as_str());
    stem.push_str(&hash(name.as_str()));
    stem
}

/// Whether it is what a lock name is turned into, as far as can be seen.
#[cfg(unix)]
pub(crate) fn is_stem(text: &str) -> bool {
    let end = text.chars().rev().take(HASH_CHARACTERS);
    let hash = end.filter(|character| ALPHABET.iter().any(|kept| char::from(*kept) == *character));
    let readable = text.chars().count().checked_sub(HASH_CHARACTERS);
    readable.is_some_and(|length| length <= READABLE_UNITS)
        && hash.count() == HASH_CHARACTERS
        && text.chars().all(is_kept)
}

fn readable(name: &str) -> String {
    let mut readable = String::new();
    let mut units = 0;
    for character in name.chars() {
        // A character outside the basic plane is two units, neither of them a letter.
        for _ in 0..character.len_utf16() {
            if units == READABLE_UNITS {
                return readable;
            }
            units += 1;
            let kept = character.len_utf16() == 1 && is_kept(character);
            readable.push(if kept { character } else { '_' });
        }
    }
    readable
}

/// Letters (`L*`), decimal digits (`Nd`) and `_`. [`char::is_alphanumeric`] is not this set.
fn is_kept(character: char) -> bool {
    character == '_'
        || character.general_category_group() == GeneralCategoryGroup::Letter
        || character.general_category() == GeneralCategory::DecimalNumber
}

fn hash(name: &str) -> String {
    let digest = Sha512::digest(name.as_bytes());
    let (mut bits, mut pending, mut text) = (0_u32, 0_u32, String::with_capacity(32));
    for byte in &digest[..HASH_BYTES] {
        pending |= u32::from(*byte) << bits;
        bits += 8;
        while bits >= 5 {
            text.push(char::from(ALPHABET[(pending & 31) as usize]));
            pending >>= 5;
            bits -= 5;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    /// Reproduced independently, and the same in the .NET library.
    const VECTORS: [(&str, &str); 9] = [
        ("", "P6AD62YPPHO33YTKIBUM5WBQHQVBCSXA.lock"),
        (".", "_LIYISOQPXAPX3NYVHPC2EK4WEOU6OW7Y.lock"),
        ("LPT1", "LPT1VUGMI6NJVPIYUGXMY4K6ETA3232OR2B5.lock"),
        ("ABC", "ABCZJ4QR6TVN4A3KMGQ4BUKHOWQYFRLXSB3.lock"),
        ("abc", "abc56LLTQOSBT6ULGHITLS4KQEIRREMO53J.lock"),
        ("cool<>!/:x\\zzz", "cool_____x_zzzATJSHZSADXN7WTL4DBU6JULFTEDVFF3L.lock"),
        ("lower", "lowerPRE5SHQAMC324P4C6UKD4R4VMGGJMF6T.lock"),
        ("½Ⅷ𝔸", "____EKOQSWDPBCX4YRD64QCVHOLRLSOYYRWY.lock"),
        ("naïve²ⓐ_漢字9", "naïve___漢字97MRKTJKDHD5M7QHSQVB7NKFTXAAWZRDG.lock"),
    ];

    #[test]
    fn the_vectors_hold() {
        for (name, file) in VECTORS {
            assert_eq!(lock_file_name(name).unwrap(), file, "{name:?}");
        }
    }

    #[test]
    fn long_names_are_cut_in_units_of_utf_16() {
        assert!(lock_file_name(&"é".repeat(40)).unwrap().starts_with(&"é".repeat(27)));
        let emoji = lock_file_name(&"😀".repeat(40)).unwrap();
        assert!(emoji.starts_with(&"_".repeat(27)) && !emoji.starts_with(&"_".repeat(28)));
        assert!(lock_file_name(&"x".repeat(1025)).is_err());
    }

    proptest! {
        #[test]
        fn every_name_is_one_short_file_in_the_directory(name in "\\PC{0,300}") {
            if let Ok(file) = lock_file_name(&name) {
                prop_assert!(file.len() <= 255);
                prop_assert!(!file.contains(['/', '\0']) && !file.starts_with('.'));
            }
        }

        #[test]
        fn different_names_are_different_files(names in prop::collection::hash_set(".{0,40}", 2..20)) {
            let files: HashSet<_> = names.iter().map(|n| lock_file_name(n).unwrap()).collect();
            prop_assert_eq!(files.len(), names.len());
        }
    }
}
