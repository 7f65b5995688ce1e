# Of who runs a cluster with clipper-nomad: whose the routes are is told from all services, not from some.
service_prefix "" {
  policy = "read"
}

node_prefix "" {
  policy = "read"
}
