"""Everything between a role's question and a provider: endpoints, retries, rate limits, parsing, the ledger."""
