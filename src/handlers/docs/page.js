"use strict";

// Swagger UI takes lines for JSON by their type: it would put those to send into quotes, and say of
// those it gets that they cannot be parsed.
const LINES = "application/x-ndjson";
const linesAreText = () => ({
  afterLoad() {
    const { getSampleSchema } = this.fn;
    this.fn.getSampleSchema = (schema, mediaType, config, example) =>
      mediaType === LINES && typeof example === "string"
        ? example
        : getSampleSchema(schema, mediaType, config, example);
  },
  wrapComponents: {
    responseBody: (ResponseBody, { React }) => (props) => {
      const contentType = props.contentType === LINES ? "text/plain" : props.contentType;
      return React.createElement(ResponseBody, { ...props, contentType });
    },
  },
});

const ui = SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#page",
  plugins: [linesAreText],
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
