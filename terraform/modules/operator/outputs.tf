output "env" {
  description = "For the shell: eval \"$(terraform output -raw env)\". No secret is in it: it reads the operator's from the folder, and fills that before where it is empty."
  value = join("\n", concat(
    [for name, value in local.env : "export ${name}='${value}'"],
    [
      "[ -s '${local.folder}/ca.pem' ] || ${local.receive}",
      "[ ! -s '${local.folder}/env' ] || . '${local.folder}/env'",
      "",
    ],
  ))
  depends_on = [terraform_data.secrets]
}
