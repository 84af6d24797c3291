"""Servers that come as packages: Postgres with pgvector and Valkey, started by our own launcher."""
