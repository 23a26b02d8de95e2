// What a provider said last when it refused: agents pass on its sentence and drop its status, its wait and its reset.
let last = null

const answers = globalThis.fetch
globalThis.fetch = Object.assign(async (request, more) => {
  const asks = (more?.method ?? request?.method ?? "GET").toUpperCase() === "POST"
  try {
    const answer = await answers(request, more)
    if (asks) last = answer.ok ? null : await noted(answer)
    return answer
  } catch (error) {
    if (asks) last = null
    throw error
  }
}, answers)

async function noted(answer) {
  const headers = {}
  for (const name of ["retry-after", "retry-after-ms"]) if (answer.headers.has(name)) headers[name] = answer.headers.get(name)
  const body = await answer.clone().text().catch(() => "")
  return { at: Date.now(), statusCode: answer.status, responseHeaders: headers, responseBody: body.slice(0, 4000) }
}

export const refusal = () => last ?? {}

export const tell = (what, told) => process.stderr.write(JSON.stringify({ locum: what, ...told }) + "\n")
