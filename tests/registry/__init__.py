"""A real registry for tests (Debian's docker-registry on loopback), what fills it, and what stands before it: TLS, a token
server, a proxy that breaks answers. Nothing of it imports the code under test."""
