// An OpenID provider (oidc-provider) with which people sign in, whatever password they type:
//   node oidc_login.mjs PORT REDIRECT_URI
// An account is called as it is typed; what follows a + is its role: ada+boss.
import { Provider } from "oidc-provider";

const [port, redirect] = process.argv.slice(2);
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{
    client_id: "covey",
    client_secret: "a secret: of the server",
    grant_types: ["authorization_code"],
    response_types: ["code"],
    redirect_uris: [redirect],
  }],
  pkce: { required: () => true },
  // So that what is known of a person is in the token itself.
  conformIdTokenClaims: false,
  claims: { openid: ["sub"], email: ["email"], profile: ["roles", "orgId"] },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, email: `${id.split("+")[0]}@example.com`, roles: id.split("+").slice(1), orgId: 1 }),
  }),
  features: { devInteractions: { enabled: true } },
});
provider.listen(Number(port), "127.0.0.1", () => console.log("ready"));
