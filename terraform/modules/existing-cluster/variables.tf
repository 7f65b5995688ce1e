variable "clusters" {
  description = "Names of clipper-nomad's clusters (`clipper-nomad up --cluster NAME`): each gets a policy of Nomad's."
  type        = set(string)
  default     = ["default-cluster"]
  nullable    = false

  validation {
    condition     = alltrue([for name in var.clusters : can(regex("^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$", name))])
    error_message = "clusters holds ${join(", ", var.clusters)}; each must be a DNS label of at most 32 characters: lower-case letters, digits and hyphens, as in default-cluster."
  }
}

variable "namespace" {
  description = "Namespace of Nomad that the clusters and Fabio are in. It must be there."
  type        = string
  default     = "default"
  nullable    = false
}

variable "nomad_acl" {
  description = "Whether to make policies of Nomad's; false where its ACLs are off."
  type        = bool
  default     = true
  nullable    = false
}

variable "consul_acl" {
  description = "Whether to make policies of Consul's; false where its ACLs are off."
  type        = bool
  default     = true
  nullable    = false
}

variable "anonymous_reads" {
  description = "Whether whoever has no token may read nodes, and services that begin with `clipper-`. Nomad's templates need it where tasks have no identity of their own for Consul, and so does Consul's DNS."
  type        = bool
  default     = true
  nullable    = false
}

variable "fabio" {
  description = "A Fabio on every client, from a Docker image with Fabio as its entry point (as fabiolb/fabio); null where there is one. `has_consul_token`: the token that Consul wants is in the job's Variable, as `consul_token`."
  type = object({
    image            = string
    job              = optional(string, "fabio")
    datacenters      = optional(list(string), ["*"])
    node_pool        = optional(string, "default")
    http_port        = optional(number, 9999)
    tcp_port         = optional(number, 7000)
    admin_port       = optional(number, 9998)
    consul_address   = optional(string, "127.0.0.1:8500")
    open_files       = optional(number, 1048576)
    has_consul_token = optional(bool, false)
  })
  default = null

  validation {
    condition     = var.fabio == null ? true : can(regex("(:[^/]+|@sha256:[0-9a-f]{64})$", var.fabio.image))
    error_message = "fabio.image has no tag and no digest; pin it, as in fabiolb/fabio:1.7.3."
  }
}
