//! The command osm.
