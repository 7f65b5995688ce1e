server {
  enabled          = true
  bootstrap_expect = ${bootstrap_expect}
}
