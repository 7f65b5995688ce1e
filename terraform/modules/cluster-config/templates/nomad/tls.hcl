# Agents show each other certificates; callers of the HTTPS API need none, they have tokens.
tls {
  http                   = true
  rpc                    = true
  ca_file                = ${ca_file}
  cert_file              = ${cert_file}
  key_file               = ${key_file}
  verify_server_hostname = true
  verify_https_client    = false
}
