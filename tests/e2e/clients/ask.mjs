// Asks a gateway with OpenAI's own JavaScript client, and prints what came of each request as JSON.
//
// Read from standard input by `node --input-type=module -`, so that packages are found from the working folder. The plan
// stands in the variable PLAN: {url, key, headers, steps: [[method, body or id], …]}; a method is a path in the client,
// `chat.completions.create`. A streamed answer comes as the list of its events.

import OpenAI from 'openai';

const plan = JSON.parse(process.env.PLAN);
const client = new OpenAI({ baseURL: plan.url, apiKey: plan.key, maxRetries: 0, defaultHeaders: plan.headers ?? {} });

async function ask(method, told) {
    const path = method.split('.');
    const name = path.pop();
    const part = path.reduce((whole, step) => whole[step], client);
    const answer = await part[name](told);
    if (!told?.stream) {
        return answer;
    }
    const events = [];
    for await (const event of answer) {
        events.push(event);
    }
    return events;
}

const results = [];
for (const [method, told] of plan.steps) {
    try {
        results.push({ answer: await ask(method, told) });
    } catch (error) {
        results.push({ kind: error.constructor.name, status: error.status, code: error.code, message: error.message });
    }
}
console.log(JSON.stringify(results));
