"use strict";

const ui = SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#page",
  deepLinking: true,
  // Every call can be tried without pressing a button first.
  tryItOutEnabled: true,
  displayRequestDuration: true,
  // The schemas stand at the end, closed.
  defaultModelsExpandDepth: 0,
  // Otherwise the document would be sent to a validator elsewhere.
  validatorUrl: null,
  onComplete: () => ui.layoutActions.show(["operations-tag", "HEAD and OPTIONS"], false),
});
