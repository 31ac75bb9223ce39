"""For tests and documentation: pages generated from the code (`docs`)."""
