"""What the platform adds to what the model itself takes: measured beside a bare loop in the same run. See README.md."""
