//! Connections to the server.
