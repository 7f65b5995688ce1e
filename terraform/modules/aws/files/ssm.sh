# ${action} the bundle of role $CLIPPER_ROLE: one SecureString parameter of SSM, with the rights of this machine's role.
# No secret on a command line: curl reads its login and its data from files and pipes. python3 comes with cloud-init.
set -eu
imds() { curl -fsS --noproxy '*' --max-time 5 "$@"; }
token=$(imds -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token)
role=http://169.254.169.254/latest/meta-data/iam/security-credentials/
login=$(imds -H "X-aws-ec2-metadata-token: $token" "$role$(imds -H "X-aws-ec2-metadata-token: $token" "$role")" | python3 -c '
import json, sys
it = json.load(sys.stdin)
print("user = \"%s:%s\"\nheader = \"X-Amz-Security-Token: %s\"" % (it["AccessKeyId"], it["SecretAccessKey"], it["Token"]))')
body() { python3 -c '
import json, os, sys
asked = {"Name": "${path}/" + os.environ["CLIPPER_ROLE"]}
if "${action}" == "fetch":
    asked |= {"WithDecryption": True}
else:
    asked |= {"Value": sys.stdin.read().strip(), "Type": "SecureString", "KeyId": "${key}", "Tier": "Intelligent-Tiering",
              "Overwrite": os.environ.get("CLIPPER_REPLACE") == "true"}
json.dump(asked, sys.stdout)'; }
ssm() { curl -sS --fail-with-body --max-time 30 --aws-sigv4 aws:amz:${region}:ssm --config /dev/fd/3 --data-binary @- \
  -H 'Content-Type: application/x-amz-json-1.1' -H "X-Amz-Target: AmazonSSM.$1" ${endpoint} 3<<END
$login
END
}
if [ ${action} = fetch ]; then
  found=$(body </dev/null | ssm GetParameter 2>&1) || {
    case $found in *ParameterNotFound*) ;; *) echo "SSM refused: $found" >&2 ;; esac
    exit 1
  }
  printf '%s\n' "$found" | python3 -c 'import json, sys; print(json.load(sys.stdin)["Parameter"]["Value"])'
else
  said=$(body | ssm PutParameter 2>&1) || {
    echo "SSM refused: $said" >&2
    exit 1
  }
fi
