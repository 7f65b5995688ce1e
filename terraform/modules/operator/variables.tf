variable "folder" {
  description = "Folder for the operator's certificate of the CA (`ca.pem`) and tokens (`env`), made on the machine that Terraform runs on, readable by its owner only."
  type        = string
  nullable    = false

  validation {
    condition     = !strcontains(var.folder, "'")
    error_message = "folder has a quote (') in it; expected a path without."
  }
}

variable "over_ssh" {
  description = "The machines to hand secrets to over SSH: name → its number at the cloud (`id`: another one is a new machine), role, index and `host` as ssh takes it (user@address). Null: they get them otherwise."
  type        = map(object({ id = string, role = string, index = number, host = string }))
  default     = null
}

variable "receive" {
  description = "Without `over_ssh`: the shell command that fills the folder with the operator's secrets."
  type        = string
  default     = null
}

variable "nomad_addr" {
  description = "URL of Nomad's API."
  type        = string
  nullable    = false
}

variable "consul_addr" {
  description = "URL of Consul's API."
  type        = string
  nullable    = false
}

variable "fabio" {
  description = "Where clients reach Fabio's HTTP port: HOST:PORT."
  type        = string
  nullable    = false
}

variable "fabio_tcp_addr" {
  description = "Where replicas reach Fabio's TCP port: HOST:PORT."
  type        = string
  nullable    = false
}

variable "operator_env" {
  description = "cluster-config's output of that name."
  type        = map(string)
  nullable    = false
}
