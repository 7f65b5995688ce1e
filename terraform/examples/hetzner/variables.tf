variable "name" {
  description = "Name of the cluster of machines: a DNS label of at most 32 characters."
  type        = string
}

variable "allowed_cidrs" {
  description = "Who reaches Nomad's and Consul's API, and SSH: the networks that you work from. Everybody is refused."
  type        = list(string)
}

variable "query_cidrs" {
  description = "Who may send queries. 0.0.0.0/0 is everybody."
  type        = list(string)
}

variable "releases" {
  description = "Versions and SHA-256 of Consul, Nomad and Fabio, in releases.auto.tfvars.json."
  type = object({
    consul = object({ version = string, sha256 = map(string) })
    nomad  = object({ version = string, sha256 = map(string) })
    fabio  = object({ version = string, sha256 = map(string) })
  })
}

variable "location" {
  description = "Where the machines are: nbg1, fsn1, hel1, ash, hil or sin."
  type        = string
}

variable "network_zone" {
  description = "Network zone of the location: eu-central, us-east, us-west or ap-southeast."
  type        = string
}

variable "ssh_keys" {
  description = "Names of SSH keys of the project; one of them must be yours."
  type        = list(string)
}
