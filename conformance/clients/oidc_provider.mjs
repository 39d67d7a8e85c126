// An OpenID provider (oidc-provider) with keys of its own, which gives tokens to a client program:
//   node oidc_provider.mjs PORT KEYS.json
// KEYS.json is a JWK set with private keys; the first one signs.
import { readFileSync } from "node:fs";
import { Provider } from "oidc-provider";

const [port, file] = process.argv.slice(2);
const jwks = JSON.parse(readFileSync(file, "utf8"));
const resource = "https://covey.example";
const provider = new Provider(`http://127.0.0.1:${port}`, {
  jwks,
  clients: [{
    client_id: "program",
    client_secret: "a secret of the program",
    grant_types: ["client_credentials"],
    redirect_uris: [],
    response_types: [],
  }],
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => resource,
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope: "devices:read tasks:read",
        audience: "covey",
        accessTokenTTL: 60,
        accessTokenFormat: "jwt",
        jwt: { sign: { alg: jwks.keys[0].alg } },
      }),
    },
  },
  enabledJWA: { idTokenSigningAlgValues: ["RS256", "ES256", "EdDSA"], introspectionSigningAlgValues: ["RS256", "ES256"] },
  extraTokenClaims: () => ({ orgId: 1, name: "the program" }),
  clientDefaults: { id_token_signed_response_alg: jwks.keys[0].alg },
});
provider.listen(Number(port), "127.0.0.1", () => console.log("ready"));
