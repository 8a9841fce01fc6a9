// A JupyterLab extension without a build step: a double-click on a numbered script (01_data.py) opens it as a
// notebook; any other .py keeps the text editor.
(() => {
  const plugin = {
    id: 'lensdet:numbered-notebooks',
    autoStart: true,
    activate: app => {
      app.docRegistry.addFileType({
        name: 'numbered-notebook',
        displayName: 'Numbered notebook (.py)',
        contentType: 'notebook',
        pattern: '^\\d\\d_.*\\.py$',
        icon: app.docRegistry.getFileType('notebook').icon
      }, ['Notebook', 'Editor']);
      // A script does not keep the kernel's language, version and all.  JupyterLab notes it when the kernel starts, and
      // would take that for a change, and ask whether to save a notebook that nobody touched.
      app.docRegistry.addWidgetExtension('Notebook', {
        createNew: (panel, context) => {
          context.model.metadataChanged.connect((model, change) => {
            if (change.key === 'language_info' && context.path.endsWith('.py') && !model.dirty) {
              Promise.resolve().then(() => { model.dirty = false; });
            }
          });
        }
      });
    }
  };
  // Without __esModule JupyterLab does not start at all.
  (window._JUPYTERLAB = window._JUPYTERLAB || {})['lensdet'] = {
    init() {},
    get: () => Promise.resolve(() => ({ __esModule: true, default: plugin }))
  };
})();
