variable "nomad_addr" {
  description = "URL of Nomad's API."
  type        = string
}

variable "consul_addr" {
  description = "URL of Consul's API."
  type        = string
}

variable "fabio_host" {
  description = "Host of Fabio, as clients and replicas reach it."
  type        = string
}

variable "clusters" {
  description = "Names of clipper-nomad's clusters: each gets a policy of Nomad's."
  type        = set(string)
}

variable "nomad_acl" {
  description = "Whether Nomad has ACLs."
  type        = bool
  default     = true
}

variable "consul_acl" {
  description = "Whether Consul has ACLs."
  type        = bool
  default     = true
}
