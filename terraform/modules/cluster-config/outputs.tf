output "machines" {
  description = "Each machine by its name: `role` (`server`, `client`, `load_balancer`), `index` within its role, `node_pool` of a client, `user_data` (cloud-init), and `user_data_gzip`, the same compressed and as base64, for clouds that allow 16 KiB."
  value = {
    for name, machine in local.machines : name => {
      role           = machine.role
      index          = machine.index
      node_pool      = machine.node_pool
      user_data      = local.user_data[name]
      user_data_gzip = base64gzip(local.user_data[name])
    }
  }

  precondition {
    condition     = length(local.clients_in_pools) == var.clients
    error_message = "node_pools has ${length(local.clients_in_pools)} clients and clients is ${var.clients}; they must be the same number."
  }
}

output "files" {
  description = "What cloud-init writes, for people without it: machine name → path → `content`, `permissions`. Then run, as root: `systemctl daemon-reload; systemctl enable --now clipper-setup`."
  value       = local.files
}

output "firewall_rules" {
  description = "What must be let in, all else being closed: `role`, `protocol`, `from_port`, `to_port`, `cidrs`, `description`."
  value = concat(
    flatten([
      for role in ["server", "client", "load_balancer"] : concat(
        [{ role = role, protocol = "tcp", from_port = 22, to_port = 22, cidrs = var.allowed_cidrs, description = "SSH" }],
        [for protocol in ["tcp", "udp"] : { role = role, protocol = protocol, from_port = 1, to_port = 65535, cidrs = [var.private_cidr], description = "the machines among themselves, ${protocol}" }],
      )
    ]),
    [
      { role = "server", protocol = "tcp", from_port = local.ports.nomad, to_port = local.ports.nomad, cidrs = var.allowed_cidrs, description = "Nomad's API" },
      { role = "server", protocol = "tcp", from_port = local.ports.consul, to_port = local.ports.consul, cidrs = var.allowed_cidrs, description = "Consul's API" },
    ],
    length(var.query_cidrs) == 0 ? [] : [
      { role = "load_balancer", protocol = "tcp", from_port = local.ports.fabio_http, to_port = local.ports.fabio_http, cidrs = var.query_cidrs, description = "queries" },
    ],
  )
}

output "ports" {
  description = "Port of each listener; `consul` is that of the API for operators, 8501 with TLS."
  value       = local.ports
}

output "operator_env" {
  description = "Variables that everybody who runs `clipper-nomad` needs beside the addresses, the tokens and the file of the CA (NOMAD_CACERT, CONSUL_CACERT)."
  value = merge({ NOMAD_REGION = var.region }, !var.tls_enabled ? {} : {
    NOMAD_TLS_SERVER_NAME  = "server.${var.region}.nomad"
    CONSUL_HTTP_SSL        = "true"
    CONSUL_TLS_SERVER_NAME = "server.${var.datacenter}.consul"
  })
}

output "first_server" {
  description = "Name of the machine that makes the secrets; the others get theirs from it."
  value       = "${var.name}-server-0"
}
