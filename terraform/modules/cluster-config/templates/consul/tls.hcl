# Since Consul 1.12. Agents show each other certificates; callers of the HTTPS API need none, they have tokens.
tls {
  defaults {
    ca_file         = ${ca_file}
    cert_file       = ${cert_file}
    key_file        = ${key_file}
    verify_outgoing = true
  }

  internal_rpc {
    verify_incoming        = true
    verify_server_hostname = true
  }
}
