"""A real Consul, Nomad and Fabio on this machine, for development."""
