variable "name" {
  description = "Name of the cluster of machines."
  type        = string
  default     = "ml"
  nullable    = false
}

variable "server_addresses" {
  description = "Address of each server in the network that the machines share: 1, 3 or 5. The first makes the secrets."
  type        = list(string)
  nullable    = false
}

variable "load_balancer_address" {
  description = "Address at which you reach a load balancer."
  type        = string
  nullable    = false
}

variable "clients" {
  description = "Number of clients."
  type        = number
  nullable    = false
}

variable "load_balancers" {
  description = "Number of load balancers."
  type        = number
  default     = 1
  nullable    = false
}

variable "allowed_cidrs" {
  description = "Who reaches Nomad, Consul and SSH."
  type        = list(string)
  nullable    = false
}

variable "query_cidrs" {
  description = "Who may send queries."
  type        = list(string)
  nullable    = false
}

variable "private_cidr" {
  description = "The network that the machines share."
  type        = string
  nullable    = false
}

variable "releases" {
  description = "Versions and SHA-256, as the module cluster-config has them."
  type = object({
    consul = object({ version = string, sha256 = map(string) })
    nomad  = object({ version = string, sha256 = map(string) })
    fabio  = object({ version = string, sha256 = map(string) })
  })
  nullable = false
}

variable "secrets_folder" {
  description = "Folder here with the operator's part of the secrets, which scripts/distribute writes."
  type        = string
  default     = "~/.clipper/ml"
  nullable    = false
}
