// Checks tokens (JWT) before a request goes to Covey: for covey-jwt.conf, in njs (0.7.6 or later). RS256 and ES256, with one
// public key in a file (PEM). Covey checks the token again: this keeps strangers away from it, and decides nothing.

import fs from 'fs';

const TOKEN_BYTES_MAX = 8192;
const LEEWAY_SECONDS = 30;
// The algorithm is that of the key, never that of the token.
const ALGORITHMS = {
    RS256: { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' },
    ES256: { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' },
};

function token(r) {
    const header = r.headersIn.Authorization || '';
    if (header.slice(0, 7).toLowerCase() === 'bearer ') {
        return header.slice(7).trim();
    }
    return r.variables.cookie_accessToken || '';
}

function part(text) {
    if (!/^[A-Za-z0-9_-]+$/.test(text)) {
        throw new Error('a part of the token is not base64url');
    }
    return Buffer.from(text, 'base64url');
}

function isFor(audience, claim) {
    return Array.isArray(claim) ? claim.indexOf(audience) >= 0 : claim === audience;
}

// Why a token is not taken; an empty text if it is.
async function fault(text, variables) {
    const name = variables.covey_jwt_algorithm, algorithm = ALGORITHMS[name];
    if (text.length > TOKEN_BYTES_MAX) {
        return 'the token is longer than 8 KiB';
    }
    const parts = text.split('.');
    if (parts.length !== 3) {
        return 'there is no token';
    }
    const header = JSON.parse(part(parts[0]).toString()), claims = JSON.parse(part(parts[1]).toString());
    if (header.alg !== name || header.crit !== undefined) {
        return 'the token must be signed with ' + name;
    }
    if (claims.iss !== variables.covey_jwt_issuer || !isFor(variables.covey_jwt_audience, claims.aud)) {
        return 'the token is of another issuer (iss), or for another audience (aud)';
    }
    const now = Date.now() / 1000;
    if (typeof claims.exp !== 'number' || claims.exp + LEEWAY_SECONDS <= now) {
        return 'the token has expired (exp)';
    }
    if (claims.nbf !== undefined && !(claims.nbf - LEEWAY_SECONDS <= now)) {
        return 'the token is not valid yet (nbf)';
    }
    const pem = fs.readFileSync(variables.covey_jwt_key).toString();
    const der = Buffer.from(pem.replace(/-----[^-]+-----/g, '').replace(/\s/g, ''), 'base64');
    const key = await crypto.subtle.importKey('spki', der, algorithm, false, ['verify']);
    const signed = Buffer.from(parts[0] + '.' + parts[1]);
    const isRight = await crypto.subtle.verify(algorithm, key, part(parts[2]), signed);
    return isRight ? '' : 'the signature of the token is wrong';
}

async function check(r) {
    let why;
    try {
        why = await fault(token(r), r.variables);
    } catch (error) {
        why = 'the token cannot be read';
        r.error('covey-jwt: ' + error.message);
    }
    // For the answer to the caller, in covey-jwt.conf.
    r.variables.covey_jwt_why = why;
    r.return(why === '' ? 204 : 401);
}

export default { check };
