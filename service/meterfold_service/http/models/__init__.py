"""What requests and responses of the API look like, made from the values of the operations."""
