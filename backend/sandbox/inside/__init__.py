"""What runs inside a sandbox: standard library only, Python 3.9 or newer. The host imports it for its source and frames."""
