"""TLS for every server model, as it is without: both halves of a connection end by themselves."""
