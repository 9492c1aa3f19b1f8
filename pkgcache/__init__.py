"""What is installed in a session: bases, package layers, their keys, the store that keeps them."""
