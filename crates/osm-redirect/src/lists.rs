//! Lists of ports, address ranges and interfaces: each entry once, in order, checked when read.
//!
//! Their text form, `1,2,3`, is that of OSM's annotations and of our arguments.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::str::FromStr;

use ipnet::IpNet;

/// A TCP port.
pub type Port = NonZeroU16;

/// The longest name of a network interface (Linux: IFNAMSIZ without its end).
const MAX_INTERFACE_BYTES: usize = 15;

/// TCP ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ports(pub BTreeSet<Port>);

/// Address ranges without host bits: `10.1.2.3/8` is kept as `10.0.0.0/8`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ranges(BTreeSet<IpNet>);

/// Network interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interfaces(pub BTreeSet<Interface>);

/// A network interface's name; a `+` at its end stands for any rest, as in iptables.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interface(String);

/// A text or number that is no port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a port: write a number from 1 to 65535")]
pub struct PortError(pub String);

/// A text that is no address range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// An address without a length.
    #[error("{0} is an address, not a range: write {0}/{len}", len = if .0.is_ipv4() { 32 } else { 128 })]
    Address(IpAddr),
    /// Neither.
    #[error("{0:?} is not an address range: write it like 10.0.0.0/8")]
    NotARange(String),
}

/// A text that is no interface's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not the name of a network interface: write at most 15 letters, digits and . _ : @ -, \
     with + at the end for any rest"
)]
pub struct InterfaceError(String);

/// Reads one port.
///
/// # Errors
/// When it is not a number from 1 to 65535.
pub fn parse_port(text: &str) -> Result<Port, PortError> {
    let text = text.trim();
    // A sign is what Rust reads and nobody means.
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| is_number).ok_or_else(|| PortError(text.to_owned()))
}

impl Ports {
    /// Numbers of a manifest as ports.
    ///
    /// # Errors
    /// The first number that is not a port.
    pub fn from_numbers(numbers: &[i64]) -> Result<Ports, PortError> {
        let port = |number: &i64| {
            let port = u16::try_from(*number).ok().and_then(Port::new);
            port.ok_or_else(|| PortError(number.to_string()))
        };
        numbers.iter().map(port).collect::<Result<_, _>>().map(Ports)
    }

    /// Adds the ports of `other`.
    pub fn extend(&mut self, other: Ports) {
        self.0.extend(other.0);
    }
}

impl Ranges {
    /// Texts of a manifest as ranges.
    ///
    /// # Errors
    /// The first text that is not a range.
    pub fn from_texts(texts: &[String]) -> Result<Ranges, RangeError> {
        texts.iter().map(|text| parse_range(text)).collect::<Result<_, _>>().map(Ranges)
    }

    /// Adds the ranges of `other`.
    pub fn extend(&mut self, other: Ranges) {
        self.0.extend(other.0);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ranges in order.
    pub fn iter(&self) -> impl Iterator<Item = &IpNet> {
        self.0.iter()
    }
}

impl Interfaces {
    /// Texts of a manifest as interfaces.
    ///
    /// # Errors
    /// The first text that is not an interface's name.
    pub fn from_texts(texts: &[String]) -> Result<Interfaces, InterfaceError> {
        texts.iter().map(|text| text.parse()).collect::<Result<_, _>>().map(Interfaces)
    }
}

impl FromStr for Ports {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Ports, PortError> {
        entries(text).map(parse_port).collect::<Result<_, _>>().map(Ports)
    }
}

impl FromStr for Ranges {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Ranges, RangeError> {
        entries(text).map(parse_range).collect::<Result<_, _>>().map(Ranges)
    }
}

impl FromStr for Interfaces {
    type Err = InterfaceError;

    fn from_str(text: &str) -> Result<Interfaces, InterfaceError> {
        entries(text).map(str::parse).collect::<Result<_, _>>().map(Interfaces)
    }
}

impl FromStr for Interface {
    type Err = InterfaceError;

    /// The name becomes part of a text that iptables reads, so no character of that text's grammar may be in it.
    fn from_str(text: &str) -> Result<Interface, InterfaceError> {
        let name = text.trim();
        let stem = name.strip_suffix('+').unwrap_or(name);
        let is_name = !name.is_empty()
            && name.len() <= MAX_INTERFACE_BYTES
            && stem.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:@-".contains(&b))
            && !stem.starts_with('-')
            && !matches!(name, "." | "..");
        if is_name { Ok(Interface(name.to_owned())) } else { Err(InterfaceError(name.to_owned())) }
    }
}

impl FromIterator<IpNet> for Ranges {
    fn from_iter<I: IntoIterator<Item = IpNet>>(ranges: I) -> Ranges {
        Ranges(ranges.into_iter().map(|range| range.trunc()).collect())
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_list(&self.0, f)
    }
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_list(&self.0, f)
    }
}

impl fmt::Display for Interfaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_list(&self.0, f)
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn parse_range(text: &str) -> Result<IpNet, RangeError> {
    let text = text.trim();
    if let Ok(address) = text.parse::<IpAddr>() {
        return Err(RangeError::Address(address));
    }
    text.parse::<IpNet>().map(|range| range.trunc()).map_err(|_| RangeError::NotARange(text.to_owned()))
}

/// The entries of `a, b`; an empty text has none, but `a,,b` has an empty one, which no list accepts.
fn entries(text: &str) -> impl Iterator<Item = &str> {
    let is_empty = text.trim().is_empty();
    text.split(',').filter(move |_| !is_empty)
}

fn write_list<T: fmt::Display>(list: &BTreeSet<T>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, entry) in list.iter().enumerate() {
        if index > 0 {
            f.write_str(",")?;
        }
        entry.fmt(f)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_users_write_them() {
        assert_eq!("6379, 7070,6379".parse::<Ports>().unwrap().to_string(), "6379,7070");
        assert_eq!("".parse::<Ports>().unwrap(), Ports::default());
        assert_eq!(" 10.1.2.3/8,10.0.0.0/8, fd00::1/8".parse::<Ranges>().unwrap().to_string(), "10.0.0.0/8,fd00::/8");
        assert_eq!("eth1,docker+".parse::<Interfaces>().unwrap().to_string(), "docker+,eth1");
    }

    #[test]
    fn what_is_wrong_is_said_with_what_would_be_right() {
        let port = |text: &str| text.parse::<Ports>().unwrap_err().to_string();
        assert_eq!(port("80,0"), r#""0" is not a port: write a number from 1 to 65535"#);
        for text in ["65536", "-1", "+1", "http", "80,,81", "80,", "1 2"] {
            assert!(port(text).contains("is not a port"), "{text}");
        }
        let range = |text: &str| text.parse::<Ranges>().unwrap_err().to_string();
        assert_eq!(range("10.0.0.1"), "10.0.0.1 is an address, not a range: write 10.0.0.1/32");
        assert_eq!(range("10.0.0.0/33"), r#""10.0.0.0/33" is not an address range: write it like 10.0.0.0/8"#);
        for text in ["eth0\n-A OUTPUT", "eth 0", "-o", "a/b", "sixteencharacter", "!eth0", "a+b", "+ +"] {
            assert!(text.parse::<Interface>().is_err(), "{text}");
        }
        assert_eq!(Ports::from_numbers(&[80, 70000]).unwrap_err(), PortError("70000".to_owned()));
    }
}
