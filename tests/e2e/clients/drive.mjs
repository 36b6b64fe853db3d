// Drives one of npm's MCP clients through the requests that it is told, and prints what came of each as JSON.
//
// Read from standard input by `node --input-type=module -`, so that packages are found from the working folder. The plan
// stands in the variable PLAN: {client, transport, mode, url, headers, steps: [[method, params], …]}.

const plan = JSON.parse(process.env.PLAN);
const info = { name: 'forebay-e2e', version: '1' };

async function modules() {
    if (plan.client === 'sdk') {
        const [{ Client }, http, sse] = await Promise.all([
            import('@modelcontextprotocol/sdk/client/index.js'),
            import('@modelcontextprotocol/sdk/client/streamableHttp.js'),
            import('@modelcontextprotocol/sdk/client/sse.js'),
        ]);
        return { Client, Http: http.StreamableHTTPClientTransport, Sse: sse.SSEClientTransport };
    }
    const all = await import('@modelcontextprotocol/client');
    return { Client: all.Client, Http: all.StreamableHTTPClientTransport, Sse: all.SSEClientTransport };
}

const { Client, Http, Sse } = await modules();
const Transport = plan.transport === 'sse' ? Sse : Http;
const transport = new Transport(new URL(plan.url), { requestInit: { headers: plan.headers } });
const mode = /^\d/.test(plan.mode ?? '') ? { pin: plan.mode } : plan.mode;
const client = new Client(info, { capabilities: {}, ...(mode && { versionNegotiation: { mode } }) });
await client.connect(transport);
const results = [];
for (const [method, params] of plan.steps) {
    try {
        results.push({ result: await client[method](params) });
    } catch (error) {
        results.push({ error: { code: error.code, message: String(error.message) } });
    }
}
await client.close();
process.stdout.write(JSON.stringify({ server: client.getServerVersion?.(), results }));
