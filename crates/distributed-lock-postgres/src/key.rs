//! What a name is called by the server.
