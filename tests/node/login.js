// The example in Infisical's documentation of TLS certificate authentication, with the address and
// the identity as arguments. The certificate and its key are in the working directory.

const fs = require("fs");
const https = require("https");
const axios = require("axios");

async function main([infisicalUrl, identityId]) {
  const clientCertificate = fs.readFileSync("client-cert.pem", "utf8");
  const clientKeyCertificate = fs.readFileSync("client-key.pem", "utf8");

  const httpsAgent = new https.Agent({
    cert: clientCertificate,
    key: clientKeyCertificate,
  });

  const { data } = await axios.post(
    `${infisicalUrl}/api/v1/auth/tls-cert-auth/login`,
    {
      identityId,
    },
    {
      httpsAgent: httpsAgent,
    }
  );

  console.log(JSON.stringify(data));
}

main(process.argv.slice(2));
