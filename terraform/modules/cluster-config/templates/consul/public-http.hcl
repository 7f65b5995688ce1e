# Without TLS. Who reaches it is the firewall's affair.
addresses {
  http = "0.0.0.0"
}
