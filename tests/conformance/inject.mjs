// Loaded with `node --import` before the suite, whose command line knows no header: lets every request to the gateway
// carry a credential, and no other request. It sits below fetch, so the suite sees and judges what it would see anyway.
//
// FOREBAY_SUITE_ORIGIN  the gateway, such as http://127.0.0.1:8080
// FOREBAY_SUITE_KEY     the key

import http from 'node:http';
import { createRequire } from 'node:module';

// The suite's own copy of undici, since the dispatcher must be one that it knows.
const { Agent, setGlobalDispatcher } = createRequire(process.argv[1])('undici');

const origin = process.env.FOREBAY_SUITE_ORIGIN;
const authorization = `Bearer ${process.env.FOREBAY_SUITE_KEY}`;

// Headers come in any of undici's forms: an object, a flat array, or pairs.
function withCredential(headers) {
    if (!headers) {
        return { authorization };
    }
    if (Array.isArray(headers)) {
        return typeof headers[0] === 'string' ? [...headers, 'authorization', authorization] : [...headers, ['authorization', authorization]];
    }
    return typeof headers[Symbol.iterator] === 'function' ? [...headers, ['authorization', authorization]] : { ...headers, authorization };
}

setGlobalDispatcher(
    new Agent().compose((dispatch) => (options, handler) => {
        const ours = String(options.origin) === origin;
        return dispatch(ours ? { ...options, headers: withCredential(options.headers) } : options, handler);
    }),
);

// Some scenarios go below fetch, with options whose host and port stand apart.
const plainRequest = http.request;
http.request = (options, ...rest) => {
    const ours = `http://${options.hostname}:${options.port}` === origin;
    return plainRequest(ours ? { ...options, headers: withCredential(options.headers) } : options, ...rest);
};
