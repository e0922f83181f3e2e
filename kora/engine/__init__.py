"""What happens to a request between its bytes and its reply."""
