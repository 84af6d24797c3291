"""Providers: one file and one class per wire."""
