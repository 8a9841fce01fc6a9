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
    }
  };
  // Without __esModule JupyterLab does not start at all.
  (window._JUPYTERLAB = window._JUPYTERLAB || {})['lensdet'] = {
    init() {},
    get: () => Promise.resolve(() => ({ __esModule: true, default: plugin }))
  };
})();
