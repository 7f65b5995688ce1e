# Since Consul 1.14 servers open a second gRPC port, which nothing here uses.
ports {
  grpc_tls = -1
}
