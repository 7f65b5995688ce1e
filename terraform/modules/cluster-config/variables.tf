variable "name" {
  description = "Name of the cluster of machines: a DNS label of at most 32 characters. Machines are called `<name>-server-0` and so on."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$", var.name))
    error_message = "name must be a DNS label of at most 32 characters: a-z, 0-9 and -, with a letter or digit at both ends."
  }
}

variable "datacenter" {
  description = "Datacenter of Consul and Nomad."
  type        = string
  default     = "dc1"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.datacenter))
    error_message = "datacenter must be a DNS label: a-z, 0-9 and -, with a letter or digit at both ends."
  }
}

variable "region" {
  description = "Region of Nomad."
  type        = string
  default     = "global"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.region))
    error_message = "region must be a DNS label: a-z, 0-9 and -, with a letter or digit at both ends."
  }
}

variable "servers" {
  description = "Number of servers, each with Consul's and Nomad's: 1, 3 or 5. With 3 the cluster outlives the loss of one, with 5 of two."
  type        = number
  default     = 3
  nullable    = false

  validation {
    condition     = contains([1, 3, 5], var.servers)
    error_message = "servers must be 1, 3 or 5: an even number outlives no more losses than one less."
  }
}

variable "clients" {
  description = "Number of clients, on which jobs run."
  type        = number
  nullable    = false

  validation {
    condition     = var.clients >= 1 && floor(var.clients) == var.clients
    error_message = "clients must be 1 or more: jobs run nowhere else."
  }
}

variable "load_balancers" {
  description = "Number of machines with Fabio."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.load_balancers >= 1 && floor(var.load_balancers) == var.load_balancers
    error_message = "load_balancers must be 1 or more: queries and model channels come in through Fabio."
  }
}

variable "retry_join" {
  description = "Where Consul's agents find each other: addresses of the servers, or one cloud auto-join text as `provider=aws tag_key=… tag_value=…`."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.retry_join) > 0 && alltrue([for each in var.retry_join : can(regex("^[!-~]([ -~]*[!-~])?$", each))])
    error_message = "retry_join must have an address of a server at least, each one line of text."
  }
}

variable "releases" {
  description = "Version of each program, and the SHA-256 of its release for each architecture of the machines (`amd64`, `arm64`). `clipper-nomad terraform init` writes them."
  type = object({
    consul = object({ version = string, sha256 = map(string) })
    nomad  = object({ version = string, sha256 = map(string) })
    fabio  = object({ version = string, sha256 = map(string) })
  })
  nullable = false

  validation {
    condition     = alltrue([for each in values(var.releases) : can(regex("^[0-9]+\\.[0-9]+\\.[0-9]+$", each.version))])
    error_message = "releases: each version must be three numbers, as 1.22.1, and no range: it is what is downloaded."
  }

  validation {
    condition = alltrue([
      for each in values(var.releases) : length(each.sha256) > 0 && alltrue([
        for architecture, sum in each.sha256 : contains(["amd64", "arm64"], architecture) && can(regex("^[0-9a-f]{64}$", sum))
      ])
    ])
    error_message = "releases: each sha256 must have amd64 or arm64 or both, with 64 digits of 0-9 and a-f."
  }

  validation {
    condition = alltrue([
      for name, oldest in { consul = [1, 8, 7], nomad = [1, 10, 0], fabio = [1, 7, 3] } : can(regex("^[0-9]+\\.[0-9]+\\.[0-9]+$", var.releases[name].version)) ? sum([
        for place, part in split(".", var.releases[name].version) : tonumber(part) * pow(10000, 2 - place)
        ]) >= sum([
        for place, part in oldest : part * pow(10000, 2 - place)
      ]) : true
    ])
    error_message = "releases: expected Consul 1.8.7, Nomad 1.10.0 and Fabio 1.7.3, or newer. An older Fabio keeps its old routes when one of them is wrong."
  }
}

variable "release_mirror" {
  description = "Where machines download releases instead of from their publishers: `<mirror>/consul/<version>/consul_<version>_linux_<arch>.zip`, `<mirror>/nomad/…` likewise, `<mirror>/fabio/v<version>/fabio-<version>-linux_<arch>`."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.release_mirror == "" || can(regex("^https?://[!-~]*[!-.0-~]$", var.release_mirror))
    error_message = "release_mirror must be a URL with http or https, without / at its end."
  }
}

variable "allowed_cidrs" {
  description = "Who reaches Nomad's and Consul's API, and SSH. Everybody (0.0.0.0/0, ::/0) is refused."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.allowed_cidrs) > 0 && alltrue([for each in var.allowed_cidrs : can(cidrnetmask(each)) || can(cidrsubnet(each, 0, 0))])
    error_message = "allowed_cidrs must have at least one network, as 10.0.0.0/8 or 203.0.113.7/32."
  }

  validation {
    condition     = alltrue([for each in var.allowed_cidrs : !endswith(each, "/0")])
    error_message = "allowed_cidrs must not be everybody (0.0.0.0/0, ::/0): who reaches Nomad's API can try tokens there. Name the networks you work from."
  }
}

variable "query_cidrs" {
  description = "Who may send queries to Fabio: it may be everybody. Applications have no passwords."
  type        = list(string)
  nullable    = false

  validation {
    condition     = alltrue([for each in var.query_cidrs : can(cidrsubnet(each, 0, 0))])
    error_message = "query_cidrs must be networks, as 10.0.0.0/8 or 0.0.0.0/0."
  }
}

variable "private_cidr" {
  description = "The network that the machines share. They reach each other on all ports in it; agents listen with their address in it."
  type        = string
  nullable    = false

  validation {
    condition     = can(cidrnetmask(var.private_cidr)) && !endswith(var.private_cidr, "/0")
    error_message = "private_cidr must be a network of IPv4 addresses, as 10.0.0.0/16, and not everybody's."
  }
}

variable "tls_enabled" {
  description = "Whether Consul and Nomad speak TLS, with a certificate from each agent. Without it tokens can be read by whoever is on the way."
  type        = bool
  default     = true
  nullable    = false
}

variable "acl_enabled" {
  description = "Whether Consul and Nomad want tokens. Without it whoever reaches them may do anything, on each client as root."
  type        = bool
  default     = true
  nullable    = false
}

variable "docker_registries" {
  description = "Registries that Docker on the clients may speak to without TLS or with a certificate of nobody's (`insecure`). Others need not be named."
  type        = list(object({ host = string, insecure = optional(bool, false) }))
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for each in var.docker_registries : can(regex("^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?$", each.host))])
    error_message = "docker_registries: each host must be a name or address, with its port where it has one, as registry.example.org:5000, and without http://."
  }
}

variable "docker_bridge" {
  description = "Address of Docker's own bridge on each client, with its prefix. Containers ask for names there."
  type        = string
  default     = "172.17.0.1/16"
  nullable    = false

  validation {
    condition     = can(cidrnetmask(var.docker_bridge)) && try(cidrhost(var.docker_bridge, 0) != split("/", var.docker_bridge)[0], false)
    error_message = "docker_bridge must be the address of a machine with its prefix, as 172.17.0.1/16."
  }
}

variable "host_volumes" {
  description = "Folders of each client that jobs may mount, by name. They are made for user `owner`: 10001 is that of the parts of Clipper. The toolkit's ACL policy allows those whose name begins with `clipper-`."
  type        = list(object({ name = string, path = string, owner = optional(number, 10001), read_only = optional(bool, false) }))
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for each in var.host_volumes : can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", each.name))]) && length(distinct(var.host_volumes[*].name)) == length(var.host_volumes)
    error_message = "host_volumes: each name must be a-z, 0-9 and -, and stand there once."
  }

  validation {
    condition     = alltrue([for each in var.host_volumes : can(regex("^(/[A-Za-z0-9][A-Za-z0-9._-]*)+$", each.path))])
    error_message = "host_volumes: each path must be that of a folder, as /var/lib/clipper/bundles, and not /."
  }

  validation {
    condition     = alltrue([for each in var.host_volumes : each.owner >= 0 && floor(each.owner) == each.owner])
    error_message = "host_volumes: each owner must be the number of a user."
  }
}

variable "node_pools" {
  description = "Number of clients in each of Nomad's node pools, which together are all `clients`. Without it all are in `default`."
  type        = map(number)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for pool, count in var.node_pools : can(regex("^[a-zA-Z0-9_-]{1,128}$", pool)) && pool != "all" && count >= 0 && floor(count) == count])
    error_message = "node_pools: each name must be letters, digits, - and _, and not `all`, which is Nomad's own; each number 0 or more."
  }
}

variable "secrets" {
  description = "How machines get the secrets that the first server makes. Null: somebody hands them on, with scripts/distribute. Else shell commands, run as root on the machines: `store` reads a bundle on stdin and keeps it for the role $CLIPPER_ROLE (one that is there must be kept, and the exit code not 0, unless $CLIPPER_REPLACE is `true`); `fetch` prints that of $CLIPPER_ROLE, or ends with an exit code that is not 0."
  type        = object({ fetch = string, store = string })
  default     = null

  validation {
    condition     = var.secrets == null ? true : length(trimspace(var.secrets.fetch)) > 0 && length(trimspace(var.secrets.store)) > 0
    error_message = "secrets must have both commands, fetch and store, or be null."
  }
}
