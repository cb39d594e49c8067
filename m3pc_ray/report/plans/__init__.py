"""The plan viewer: a recorded episode as a page in which its decisions can be looked into."""
