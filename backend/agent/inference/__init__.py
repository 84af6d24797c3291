"""Access to models: providers, one file per wire, and what is known of their models."""
