"""What an operator types: `kora-server`, and `kora` with its tools."""
