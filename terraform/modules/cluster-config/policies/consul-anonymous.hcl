# Of who has no token: Nomad's templates, where tasks have no identity of their own for Consul, and Consul's DNS.
service_prefix "clipper-" {
  policy = "read"
}

# replicas meet their first query frontend through it
service "fabio" {
  policy = "read"
}

node_prefix "" {
  policy = "read"
}
