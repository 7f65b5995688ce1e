# Of Consul's own agents, servers and clients: each registers its node.
node_prefix "" {
  policy = "write"
}

# what the catalog holds of its node
service_prefix "" {
  policy = "read"
}
