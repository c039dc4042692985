//! Generating secrets locally.

use rand::RngCore;
use rand::distributions::{Distribution, Uniform};
use rand::rngs::OsRng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Secret;

/// What a generated secret is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Alphabet {
    /// Letters and digits: survives shells, URLs and configuration files.
    #[default]
    Alphanumeric,
    /// Letters, digits and punctuation without quotes, backslash, `$`, `/`, `@` and space.
    Symbols,
    /// Lower-case hexadecimal digits.
    Hex,
    /// URL-safe base64 characters.
    Base64,
    /// A version 4 UUID; `length` is not used.
    Uuid,
}

/// How to generate one secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipe {
    alphabet: Alphabet,
    length: usize,
}

/// A recipe that would give a guessable or an absurd secret.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "a length of {length} gives {bits} bits; it must give {MIN_BITS} or more, in at most {MAX_LENGTH} characters"
)]
pub struct RecipeError {
    length: usize,
    bits: u32,
}

/// Below this a secret can be searched offline (NIST SP 800-131A asks for 112 bits).
const MIN_BITS: u32 = 112;
/// Longer values do not fit common password fields, and no strength is gained.
const MAX_LENGTH: usize = 1024;

impl Recipe {
    /// Checks that the secret will be strong enough.
    ///
    /// # Errors
    /// When the length gives fewer than 112 bits or exceeds 1,024 characters.
    pub fn new(alphabet: Alphabet, length: usize) -> Result<Self, RecipeError> {
        let bits = match alphabet {
            Alphabet::Uuid => 122,
            _ => {
                let symbols = characters(alphabet).len() as f64;
                (symbols.log2() * length as f64) as u32
            }
        };
        if bits < MIN_BITS || length > MAX_LENGTH {
            return Err(RecipeError { length, bits });
        }
        Ok(Self { alphabet, length })
    }

    /// The characters that a secret of this recipe may have.
    pub fn characters(self) -> String {
        let separator = if self.alphabet == Alphabet::Uuid { "-" } else { "" };
        characters(self.alphabet).iter().copied().map(char::from).collect::<String>() + separator
    }

    /// How many characters, each of one byte, a secret of this recipe has.
    pub fn length(self) -> usize {
        if self.alphabet == Alphabet::Uuid { uuid::fmt::Hyphenated::LENGTH } else { self.length }
    }

    /// Makes one secret from the operating system's generator.
    pub fn generate(self) -> Secret {
        if self.alphabet == Alphabet::Uuid {
            let mut bytes = [0; 16];
            OsRng.fill_bytes(&mut bytes);
            return Secret::new(uuid::Builder::from_random_bytes(bytes).into_uuid().to_string());
        }
        let characters = characters(self.alphabet);
        let index = Uniform::from(0..characters.len());
        let text: String =
            index.sample_iter(OsRng).take(self.length).map(|i| char::from(characters[i])).collect();
        Secret::new(text)
    }
}

fn characters(alphabet: Alphabet) -> &'static [u8] {
    const ALL: &[u8] =
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_!#%&()*+,.:;<=>?[]^{|}~";
    match alphabet {
        Alphabet::Alphanumeric => &ALL[..62],
        Alphabet::Base64 => &ALL[..64],
        Alphabet::Symbols => ALL,
        Alphabet::Hex | Alphabet::Uuid => b"0123456789abcdef",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_weak_and_absurd_lengths() {
        assert!(Recipe::new(Alphabet::Hex, 27).is_err());
        assert!(Recipe::new(Alphabet::Hex, 28).is_ok());
        assert!(Recipe::new(Alphabet::Alphanumeric, 18).is_err());
        assert!(Recipe::new(Alphabet::Alphanumeric, 1025).is_err());
    }

    #[test]
    fn draws_only_from_its_alphabet_and_never_twice_the_same() {
        for alphabet in [Alphabet::Alphanumeric, Alphabet::Symbols, Alphabet::Hex, Alphabet::Base64] {
            let recipe = Recipe::new(alphabet, 64).expect("strong");
            let (a, b) = (recipe.generate(), recipe.generate());
            assert_eq!(a.expose().len(), 64);
            assert!(a.expose().bytes().all(|c| characters(alphabet).contains(&c)));
            assert!(!a.same_as(&b));
        }
        let id = Recipe::new(Alphabet::Uuid, 0).expect("uuid").generate();
        assert_eq!(uuid::Uuid::parse_str(id.expose()).expect("uuid").get_version_num(), 4);
    }
}
