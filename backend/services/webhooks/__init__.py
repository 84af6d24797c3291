"""Events of an account, sent to addresses that people gave (Standard Webhooks)."""
