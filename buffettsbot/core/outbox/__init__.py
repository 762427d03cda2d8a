"""What is to be told: queued in the transaction that decided it, sent by others."""
